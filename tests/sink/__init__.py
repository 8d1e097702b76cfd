"""A sink: it speaks enough of S3 to take uploads of any size, hashes and counts their bytes, and keeps none of them."""
