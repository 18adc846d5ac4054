"""The limits that requests are held to; GetServerInfo tells them."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A full log batch of long lines fits; what is larger belongs into result storage."""

MAX_NAME_BYTES = 500
MAX_TEXT_BYTES = 64 * 1024
"""A state's message."""
MAX_KEY_BYTES = 2000
"""Cache, idempotency and storage keys: they are indexed, and an index row has to fit a page."""
MAX_JSON_BYTES = 1024 * 1024
MAX_JSON_DEPTH = 100
MAX_TAGS = 100
MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 100
MAX_BATCH_ITEMS = 1000
MAX_RETRIES = 10_000
MAX_RETRY_DELAYS = 50
MAX_FILTER_VALUES = 500
"""Of one condition of a filter."""
MAX_FILTER_CONDITIONS = 50
MAX_FILTER_DEPTH = 3
"""Of groups in groups."""
MAX_FILTER_BYTES = 256 * 1024
"""SQLite takes statements of a million bytes, and values are written into them."""
MAX_PATTERN_BYTES = 1000
"""Of a text that is looked for in logs."""
MAX_HISTORY_BUCKETS = 500
MAX_LOG_BATCH_RECORDS = 10_000
MAX_LOG_MESSAGE_BYTES = 1024 * 1024
LOG_WINDOW_BYTES = 8 * 1024 * 1024
MAX_DURATION_SECONDS = 10 * 366 * 86_400
"""Ten years: longer delays are mistakes of unit."""
