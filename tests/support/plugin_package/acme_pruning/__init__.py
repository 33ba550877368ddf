"""What another package brings to autoprune."""
