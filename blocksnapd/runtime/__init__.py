"""An asyncio kit that knows nothing of block devices."""
