terraform import roost_cvm_power.batch CVM_ID
