"""Withdrawal of all visual tokens before one decoder layer (VTW, arXiv 2405.05803): measured everywhere, one chosen."""
