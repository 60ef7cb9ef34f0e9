variable "bucket" {
  description = "The bucket's name; publish.bucket in params.yaml."
  type        = string
}

variable "prefix" {
  description = "Where releases begin in it; publish.prefix in params.yaml."
  type        = string
  default     = "releases"
}

variable "region" {
  description = "publish.region in params.yaml."
  type        = string
  default     = "eu-central-1"
}

variable "retention_days" {
  description = "How long a former version of an object is kept, whoever deletes it."
  type        = number
  default     = 90
  validation {
    condition     = var.retention_days >= 1
    error_message = "Releases are kept for a day at least."
  }
}
