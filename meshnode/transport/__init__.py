"""Links: aioquic pumped by trio, and the same interface inside one process."""
