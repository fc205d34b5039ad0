"""The only package that knows Label Studio's JSON, its SDK and how its server behaves."""
