"""Base policies: what a monitor guards. Reference ones trained here, and clients of served VLAs."""
