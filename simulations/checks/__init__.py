"""What must hold, judged from the outcome of a world alone. Nothing here knows a node.

``judge`` asks every check that the plan wants; ``model`` is the dumb replica that says what an incident must show.
"""
