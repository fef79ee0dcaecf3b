"""Making, converting and checking data sets."""
