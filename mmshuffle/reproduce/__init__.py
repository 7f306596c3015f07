"""What a table of a paper needs to be measured, at which scale, and who does which part."""
