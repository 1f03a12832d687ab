"""All that knows Faust: the rest of the service uses what these modules offer, and no Faust.

Faust gives the consumer group, the assignment, the agents and the web server. `transport` and
`recovery` put the commit engine in the place of Faust's own.
"""
