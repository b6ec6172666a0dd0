"""From rules to one sentence that says what is wrong: evidence from the store, findings, causes, the book, channels.

`evidence` asks the store, `judging` and `causes` are arithmetic, `book` decides what opens and closes, `notifying`
tells people through `channels`.
"""
