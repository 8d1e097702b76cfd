"""IAM policy documents as session policies: what IAM would refuse, and what two of them allow together. Pure."""
