"""What happens for each message of a load, compiled: it must cost next to nothing beside the broker."""
