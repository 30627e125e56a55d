"""Amazon Rekognition Face Liveness results, from a manifest of session ids to Parquet tables."""
