"""Where stores lie: folders and buckets, and how files get there whole."""
