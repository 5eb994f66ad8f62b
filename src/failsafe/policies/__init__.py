"""Base policies, which a monitor guards: reference policies, and clients of served VLAs."""
