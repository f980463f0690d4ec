"""The running agent: buffers, pacing, engine, session, monitor."""
