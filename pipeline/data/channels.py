"""How a sample is laid out: its views and channels, its label, and the depths that are not distances."""

VIEWS = 3
COLOURS = 3  # red, green, blue
RGB_CHANNELS = VIEWS * COLOURS
CHANNELS = RGB_CHANNELS + VIEWS  # of a network's input: RGB of views 0, 1, 2, then depth of views 0, 1, 2
COORDINATES = 12  # of a label and a prediction: index, middle, ring, thumb, each x, y, z

NO_RETURN_MM = 0  # the sensor saw nothing there
SENTINEL_MM = 65535  # not a distance either
