"""What this machine can do, and the commands that fix what it cannot."""
