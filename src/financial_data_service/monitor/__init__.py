"""The Streamlit page, run by ``make monitor-ui`` on port 8501.

::

    feed.py: one subscription per process ──▶ board.py: what is known, and its history
                                                │ a snapshot, at each refresh
    page.py: Streamlit, a fragment per session ◀┘ by way of views.py: HTML and data of plots

It talks to the service over HTTP and WebSocket (``FDS_URL``, ``FDS_API_KEY``) and knows nothing
else of it. The plots are drawn by the same script as those of the service's own page.
"""
