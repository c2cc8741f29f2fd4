"""Vital signs of training, ours or anybody's: measured cheaply, written as rules read them."""
