"""A whole market under load, with the means to break it and to compare its books."""
