"""HTTP clients for the providers' SDKs whose model calls take their turn."""
