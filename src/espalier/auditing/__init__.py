"""An audit: photographs -> looks -> copies -> features -> findings -> pictures and one page."""
