"""Making, converting and checking data sets."""

__all__: list[str] = []
