"""All that knows Faust: the rest of the service uses what these modules offer, and no Faust.

Faust gives the consumer group, the assignment, the agents and the web server. `app` makes one,
`process` runs it, `inputs` reads a topic, `tables` declares changelogs, `http` and `assignment` are
for the web. `transport` and `recovery` put the commit engine in the place of Faust's own.
"""
