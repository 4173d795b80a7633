"""x."""
def renew() -> str: return ""
