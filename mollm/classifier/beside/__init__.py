"""Files that an exported classifier carries beside it. They need torch and transformers, and nothing of mollm."""
