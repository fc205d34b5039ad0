"""The web process: Label Studio's ML backend protocol, webhooks and the status page. It only reads the store."""
