"""Finishing a project: audits, estimates with honest intervals, and certificates for what nobody has labelled."""
