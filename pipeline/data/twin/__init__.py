"""The rendered stand-in for the recorded data set."""
