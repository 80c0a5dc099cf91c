"""Reports: what a run or a sweep was and what came of it, as one HTML file to look at and sign, and the same as JSON.

``facts`` makes records (``records``) out of an outcome; ``page`` makes HTML out of these records and of nothing else.
So what a page says stands in the JSON beside it, and a page can be made again from it.
"""
