"""The worlds that a scenario runs in. ``contract`` says what each is given and must answer."""
