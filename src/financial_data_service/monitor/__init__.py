"""The Streamlit page, run by ``make monitor-ui`` on port 8501.

::

    feed.py: one subscription per process ──▶ board.py: what is known (snapshot.py, history.py)
                                                │ a snapshot at each refresh
    page.py: Streamlit, a fragment per session ◀┘ model.py: the snapshot as JSON

The page embeds the view of the service's own page as a component. Change what both pages show in
``server/page/static/view.js``. Change what the monitor records in this package. The monitor uses
the service only through HTTP and WebSocket (``FDS_URL``, ``FDS_API_KEY``). It imports only
``client`` and the layers below it.
"""
