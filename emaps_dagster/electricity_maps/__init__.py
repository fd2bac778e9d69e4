"""The API of Electricity Maps: requests, retries, typed errors, and which records are admitted. No Spark."""
