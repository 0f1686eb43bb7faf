"""Raw layouts in, packed arrays out, batches on the device."""
