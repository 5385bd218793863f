"""What the stage prepare can read or simulate."""
