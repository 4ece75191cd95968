"""Laurel: what a rewards program is. Nothing in here knows of GraphQL or of queues."""
