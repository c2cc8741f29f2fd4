"""Pictures drawn by the program itself: a demo set that looks like photographs, and a tiny one."""
