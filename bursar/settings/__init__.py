"""What a file, the environment and `configure` say, read and checked."""
