"""Delivering what was published: the same bytes under the same number, however often they have to be sent.

What is to be sent is written down first (its number, the snapshot it is made from, its hash), then it is sent, then
that is written down. A process that is killed in between leaves a number that is not known to have arrived: the next
run makes the same bytes of the same snapshot again and sends them under that number.
"""
