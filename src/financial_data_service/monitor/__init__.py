"""The Streamlit page, run by ``make monitor-ui`` on port 8501.

::

    feed.py: one subscription per process ──▶ board.py: the state, and its history
                                                │ a snapshot at each refresh
    page.py: Streamlit, a fragment per session ◀┘ with views.py: HTML and data of plots

It knows the service by HTTP and WebSocket alone (``FDS_URL``, ``FDS_API_KEY``), and imports only
``client`` and what lies below it. A change of what the Streamlit page shows goes here. The plots
are drawn by the script of the service's own page.
"""
