"""The demo: real texts with their gold labels, a Label Studio project made from them, and an honest score.

Gold labels go to one file that only the scoring command opens; neither Label Studio nor the loop ever sees them.
"""
