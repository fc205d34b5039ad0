"""The only room that knows Label Studio's JSON, its SDK and its habits."""
