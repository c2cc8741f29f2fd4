"""The data speaks first: what a data set is, and what is wrong with it, before it is trained on."""
