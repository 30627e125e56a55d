"""Whether a run would work here: sources, output, images and this machine. What is wrong comes with how to mend it."""
