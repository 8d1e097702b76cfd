"""IAM policy documents: what IAM would refuse, what two of them allow together, what they decide. Pure."""
