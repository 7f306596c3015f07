/* SPDX-License-Identifier: GPL-2.0-or-later (it is loaded into QEMU, which is under that licence)
 *
 * A plugin of QEMU's user mode that counts what an AArch64 program executes.
 *
 * The program marks a moment by the system call lseek(-1, ...), which fails and does nothing else;
 * all counters up to there go to the file of the argument `out`, as a line of JSON.
 * Memory is counted, and the cache simulated, from the first mark on.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is used of the plugins' interface, version 1 (QEMU 4.2 to 8.2, docs/devel/tcg-plugins);
 * Debian has no package with its header. */
typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info qemu_info_t;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_RW = 3 };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*tb_trans_cb)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*mem_cb)(unsigned, qemu_plugin_meminfo_t, uint64_t, void *);
typedef void (*syscall_cb)(qemu_plugin_id_t, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, tb_trans_cb);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_cb);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *,
                                              uint64_t);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, mem_cb, enum qemu_plugin_cb_flags,
                                      enum qemu_plugin_mem_rw, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

enum { FP_SIMD, LOAD_STORE, BRANCH, INTEGER, OTHER, CLASSES };
static uint64_t executed[CLASSES], accesses, bytes, l1_misses, l2_misses;
static bool active;
static FILE *out;

/* The caches of a Cortex-A76 in a Raspberry Pi 5: 64 KiB in 4 ways, 512 KiB in 8 ways, lines of 64
 * bytes; the least recently used line goes, and nothing is fetched ahead. */
enum { LINE = 64, L1_WAYS = 4, L1_SETS = (64 << 10) / LINE / L1_WAYS,
       L2_WAYS = 8, L2_SETS = (512 << 10) / LINE / L2_WAYS };
static uint64_t l1[L1_SETS][L1_WAYS], l2[L2_SETS][L2_WAYS];

/* Puts a line in front of its set; returns whether it was there. */
static bool touch(uint64_t *set, int ways, uint64_t line) {
    int place = 0;
    while (place < ways - 1 && set[place] != line) place++;
    bool found = set[place] == line;
    memmove(set + 1, set, place * sizeof *set);
    set[0] = line;
    return found;
}

static void on_access(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *unused) {
    if (!active) return;
    uint64_t size = UINT64_C(1) << qemu_plugin_mem_size_shift(info);
    accesses++;
    bytes += size;
    for (uint64_t n = address / LINE; n <= (address + size - 1) / LINE; n++) {
        uint64_t line = n + 1; /* 0 is an empty place */
        if (touch(l1[n % L1_SETS], L1_WAYS, line)) continue;
        l1_misses++;
        if (!touch(l2[n % L2_SETS], L2_WAYS, line)) l2_misses++;
    }
}

/* The main groups of the A64 encoding (Arm Architecture Reference Manual, C4.1), by op0. */
static int class_of(uint32_t word) {
    uint32_t op0 = word >> 25 & 15;
    if ((op0 & 5) == 4) return LOAD_STORE;
    if ((op0 & 7) == 7) return FP_SIMD;
    if ((op0 & 14) == 10) return BRANCH; /* and system instructions */
    if ((op0 & 14) == 8 || (op0 & 7) == 5) return INTEGER;
    return OTHER; /* SVE and SME */
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    uint64_t found[CLASSES] = {0};
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
        found[class_of(word)]++;
        qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS,
                                         QEMU_PLUGIN_MEM_RW, NULL);
    }
    for (int c = 0; c < CLASSES; c++)
        if (found[c])
            qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &executed[c],
                                                     found[c]);
}

static void on_syscall(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t fd,
                       uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
                       uint64_t a7, uint64_t a8) {
    enum { LSEEK = 62 };
    if (number != LSEEK || (uint32_t)fd != UINT32_MAX) return;
    active = true;
    fprintf(out,
            "{\"fp_simd\": %" PRIu64 ", \"load_store\": %" PRIu64
            ", \"branch\": %" PRIu64 ", \"integer\": %" PRIu64 ", \"other\": %" PRIu64
            ", \"accesses\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"l1_misses\": %" PRIu64
            ", \"l2_misses\": %" PRIu64 "}\n",
            executed[FP_SIMD], executed[LOAD_STORE], executed[BRANCH], executed[INTEGER],
            executed[OTHER], accesses, bytes, l1_misses, l2_misses);
    fflush(out);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                               char **argv) {
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
    if (!out) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
