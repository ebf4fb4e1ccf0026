"""The Streamlit page, run by ``make monitor-ui`` on port 8501.

::

    feed.py: one subscription per process ──▶ board.py: what is known (snapshot.py, history.py)
                                                │ a snapshot at each refresh
    page.py: Streamlit, a fragment per session ◀┘ model.py: the snapshot as JSON

What a viewer sees is the view of the service's own page, embedded as a component: a change of what
both pages show goes to ``server/page/static/view.js``. A change of what the monitor knows goes
here. It knows the service by HTTP and WebSocket alone (``FDS_URL``, ``FDS_API_KEY``), and imports
only ``client`` and the layers below.
"""
