"""The operators' dashboard at `/ops`: pages made here, readable without JavaScript.

dashboard.py   what the pages work with, one per app
session.py     who looks: the cookie of a login, and the tokens in forms
ops_views.py   what the pages have in common; paths.py: all of them, which are in
               login.py, board.py, list_pages.py, letter_pages.py, letter_actions.py,
               merchant_pages.py, adjusting.py, extending.py, shop_setting.py and files.py
rendering.py   from templates to pages
recorder.py    the last hour of this worker, by minutes
figures.py     what a worker reports of itself; cluster_snapshot.py asks all of them
page_rows.py   trials, purchases and revenue from a worker's own rows; projected.py: from PostgreSQL
lists.py       merchants and purchases from PostgreSQL; revenue.py, projection_state.py: as well
exports.py     lists as CSV; charge_links.py: where a charge is seen at its platform
notices.py     the lines of the banner; reconciliation.py: the results of look-ups, for one of them
letters.py     the newest dead letters
endpoint_states.py  endpoints of outgoing webhooks, from the events about them
shared.py      one answer for all who look at the same time
page_text.py   numbers, times and lines as people read them
"""
