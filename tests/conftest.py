"""What all tests share. None of them may reach a network; see `practice_network` below."""
